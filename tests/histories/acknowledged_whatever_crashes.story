   18.326s place l1 of a-3 on node-2
   18.326s place l2 of a-6 on node-2
   18.326s place l3 of a-5 on node-2
   18.326s place l4 of a-1 on node-2
   19.337s gone l1 of a-3 on node-2, NodeFailure
   19.337s gone l2 of a-6 on node-2, NodeFailure
   19.337s gone l3 of a-5 on node-2, NodeFailure
   19.337s gone l4 of a-1 on node-2, NodeFailure
   19.347s place l5 of a-3 on node-2
   19.347s place l6 of a-6 on node-2
   19.347s place l7 of a-5 on node-2
   19.347s place l8 of a-1 on node-2
   19.347s place l9 of a-4 on node-1
   19.347s place l10 of a-2 on node-1
   19.399s gone l9 of a-4 on node-1, NodeFailure
   19.399s gone l10 of a-2 on node-1, NodeFailure
   24.359s place l11 of a-4 on node-1
   24.359s place l12 of a-2 on node-1
  119.384s gone l5 of a-3 on node-2, Ended
  119.384s gone l6 of a-6 on node-2, Ended
  119.384s gone l7 of a-5 on node-2, Ended
  119.384s gone l8 of a-1 on node-2, Ended
  119.384s a-1 Completed after 2 attempts, waited 0 s, lost 1 s
  119.384s a-3 Completed after 2 attempts, waited 2 s, lost 1 s
  119.384s a-5 Completed after 2 attempts, waited 1 s, lost 1 s
  119.384s a-6 Completed after 2 attempts, waited 2 s, lost 1 s
  129.325s place l13 of b-3 on node-1
  130.007s place l14 of b-1 on node-1
  133.537s place l15 of b-2 on node-2
  134.462s gone l11 of a-4 on node-1, Ended
  134.462s gone l12 of a-2 on node-1, Ended
  134.462s a-2 Completed after 2 attempts, waited 5 s, lost 0 s
  134.462s a-4 Completed after 2 attempts, waited 6 s, lost 0 s
  179.357s gone l13 of b-3 on node-1, Ended
  179.357s b-3 Completed after 1 attempts, waited 0 s, lost 0 s
  180.071s gone l14 of b-1 on node-1, Ended
  180.071s b-1 Completed after 1 attempts, waited 0 s, lost 0 s
  183.598s gone l15 of b-2 on node-2, Ended
  183.598s b-2 Completed after 1 attempts, waited 0 s, lost 0 s
  290.130s place l16 of c-2 on node-1
  290.200s place l17 of c-1 on node-1
  291.854s place l18 of c-3 on node-1
  340.186s gone l16 of c-2 on node-1, Ended
  340.186s c-2 Completed after 1 attempts, waited 0 s, lost 0 s
  340.229s gone l17 of c-1 on node-1, Ended
  340.229s c-1 Completed after 1 attempts, waited 0 s, lost 0 s
  341.934s gone l18 of c-3 on node-1, Ended
  341.934s c-3 Completed after 1 attempts, waited 0 s, lost 0 s
client_retry 110
coordinator_crash 3
entry_lost_unsynced 4
request_refused 30
store_full 1
sync_error 1
