   10.000s place l1 of long on node
  490.021s place l2 of long on node
  490.021s gone l1 of long on node, NodeFailure
  890.028s place l3 of long on node
  890.028s gone l2 of long on node, NodeFailure
 1790.084s gone l3 of long on node, Ended
 1790.084s long Completed after 3 attempts, waited 0 s, lost 880 s
machine_crash 1
station_crash 1
wipe 1
