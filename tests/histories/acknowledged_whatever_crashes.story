   13.557s place l1 of a-1 on node-2
   13.557s place l2 of a-4 on node-2
   13.818s place l3 of a-2 on node-2
   18.665s place l4 of a-5 on node-1
   18.665s place l5 of a-6 on node-1
   20.437s place l6 of a-3 on node-1
   22.993s place l7 of a-5 on node-2
   22.993s place l8 of a-6 on node-1
   22.993s place l9 of a-3 on node-1
   22.993s gone l4 of a-5 on node-1, NodeFailure
   22.993s gone l5 of a-6 on node-1, NodeFailure
   22.993s gone l6 of a-3 on node-1, NodeFailure
  113.632s gone l1 of a-1 on node-2, Ended
  113.632s gone l2 of a-4 on node-2, Ended
  113.632s a-1 Completed after 1 attempts, waited 0 s, lost 0 s
  113.632s a-4 Completed after 1 attempts, waited 0 s, lost 0 s
  113.865s gone l3 of a-2 on node-2, Ended
  113.865s a-2 Completed after 1 attempts, waited 0 s, lost 0 s
  123.036s gone l7 of a-5 on node-2, Ended
  123.036s a-5 Completed after 2 attempts, waited 1 s, lost 3 s
  123.049s gone l8 of a-6 on node-1, Ended
  123.049s gone l9 of a-3 on node-1, Ended
  123.049s a-3 Completed after 2 attempts, waited 0 s, lost 1 s
  123.049s a-6 Completed after 2 attempts, waited 0 s, lost 3 s
  129.089s place l10 of b-2 on node-2
  129.209s place l11 of b-1 on node-2
  133.543s place l12 of b-3 on node-2
  179.135s gone l10 of b-2 on node-2, Ended
  179.135s b-2 Completed after 1 attempts, waited 0 s, lost 0 s
  179.282s gone l11 of b-1 on node-2, Ended
  179.282s b-1 Completed after 1 attempts, waited 0 s, lost 0 s
  183.606s gone l12 of b-3 on node-2, Ended
  183.606s b-3 Completed after 1 attempts, waited 0 s, lost 0 s
  292.552s place l13 of c-3 on node-1
  292.854s place l14 of c-1 on node-1
  294.029s place l15 of c-2 on node-1
  342.885s gone l13 of c-3 on node-1, Ended
  342.885s gone l14 of c-1 on node-1, Ended
  342.885s c-1 Completed after 1 attempts, waited 0 s, lost 0 s
  342.885s c-3 Completed after 1 attempts, waited 1 s, lost 0 s
  344.066s gone l15 of c-2 on node-1, Ended
  344.066s c-2 Completed after 1 attempts, waited 0 s, lost 0 s
client_retry 111
coordinator_crash 3
request_refused 31
store_full 1
sync_error 1
