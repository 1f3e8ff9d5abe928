  150.000s place l1 of on_desk on desk
  150.000s place l2 of forgotten on box
  150.000s place l3 of works on box
  150.000s place l4 of own on box
  450.030s warn l2 of forgotten on box IdleTimeout
  450.035s warn l1 of on_desk on desk IdleTimeout
 1024.377s warn l2 of forgotten on box IdleTimeout
 1025.108s warn l1 of on_desk on desk IdleTimeout
 1924.377s evict l2 of forgotten on box IdleTimeout
 1929.997s warn l1 of on_desk on desk IdleTimeout
 1940.259s place l5 of next on box
 1940.259s gone l2 of forgotten on box, IdleTimeout
 1940.259s forgotten Cancelled after 1 attempts, waited 0 s, lost 0 s
 2240.317s gone l5 of next on box, Ended
 2240.317s next Completed after 1 attempts, waited 1216 s, lost 0 s
 2829.997s evict l1 of on_desk on desk IdleTimeout
 2838.684s gone l1 of on_desk on desk, IdleTimeout
 2838.684s on_desk Cancelled after 1 attempts, waited 0 s, lost 0 s
 3150.033s gone l3 of works on box, Ended
 3150.033s gone l4 of own on box, Ended
 3150.033s own Completed after 1 attempts, waited 0 s, lost 0 s
 3150.033s works Completed after 1 attempts, waited 0 s, lost 0 s
client_retry 42
coordinator_crash 1
cut 1
entry_lost_unsynced 1
idle_reclaimed 2
idle_warned 5
message_cut 12
