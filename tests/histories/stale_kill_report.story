   10.000s place l1 of old on node
   60.000s evict l1 of old on node PriorityPreemption
   65.035s kill l1 of old on node PriorityPreemption
   65.078s place l2 of now on node
   65.078s gone l1 of old on node, PriorityPreemption
   95.149s place l3 of old on node
   95.149s gone l2 of now on node, Ended
   95.149s now Completed after 1 attempts, waited 5 s, lost 0 s
  245.190s gone l3 of old on node, Ended
  245.190s old Completed after 2 attempts, waited 30 s, lost 5 s
replay 4
reset 1
