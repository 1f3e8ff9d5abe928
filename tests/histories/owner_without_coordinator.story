  150.000s place l1 of guest on desk
 1019.834s place l2 of guest on desk
 1019.834s gone l1 of guest on desk, OwnerReturn
 1619.971s gone l2 of guest on desk, Ended
 1619.971s guest Completed after 2 attempts, waited 0 s, lost 269 s
coordinator_crash 1
cut 1
message_cut 31
station_crash 1
owner waited 30000 of 32000 ms, coordinator in reach: false
