   10.000s place l1 of tight on node
 1530.000s evict l1 of tight on node TimeLimit
 1532.417s place l2 of short on node
 1532.417s gone l1 of tight on node, Ended
 1532.417s tight Completed after 1 attempts, waited 0 s, lost 0 s
 1592.417s evict l2 of short on node TimeLimit
 1595.375s gone l2 of short on node, Ended
 1595.375s short Completed after 1 attempts, waited 1512 s, lost 0 s
