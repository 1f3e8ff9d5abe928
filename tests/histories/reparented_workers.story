   10.000s place l1 of training on node
   70.000s evict l1 of training on node UserRequest
  130.030s kill l1 of training on node UserRequest
  300.032s place l2 of next on node
  300.032s gone l1 of training on node, UserRequest
  300.032s training Cancelled after 1 attempts, waited 0 s, lost 0 s
  400.078s gone l2 of next on node, Ended
  400.078s next Completed after 1 attempts, waited 280 s, lost 0 s
kill_survived 2
stuck 1
