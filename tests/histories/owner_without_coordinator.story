  150.000s place l1 of guest on desk
  990.042s place l2 of guest on desk
  990.042s gone l1 of guest on desk, OwnerReturn
 1590.125s gone l2 of guest on desk, Ended
 1590.125s guest Completed after 2 attempts, waited 0 s, lost 240 s
coordinator_crash 1
cut 1
message_cut 31
station_crash 1
owner waited 30000 of 32000 ms, coordinator in reach: false
