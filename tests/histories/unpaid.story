   10.000s place l1 of long on kind
  411.132s gone l1 of long on kind, Ended
  411.132s long Completed after 1 attempts, waited 0 s, lost 0 s
