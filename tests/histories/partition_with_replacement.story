   10.000s place l1 of long on cut
  636.538s kill l1 of long on cut best_fit
  695.527s place l2 of long on other
  695.527s gone l1 of long on cut, NodeFailure
 1835.589s gone l2 of long on other, Ended
 1835.589s long Completed after 2 attempts, waited 0 s, lost 25 s
cut 1
message_cut 241
