   10.000s place l1 of long-1 on node-1
   10.000s place l2 of long-2 on node-2
 1810.400s gone l1 of long-1 on node-1, Ended
 1810.400s gone l2 of long-2 on node-2, Ended
 1810.400s long-1 Completed after 1 attempts, waited 0 s, lost 0 s
 1810.400s long-2 Completed after 1 attempts, waited 0 s, lost 0 s
slow 1
stall 1
