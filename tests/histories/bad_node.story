   10.000s place l1 of job-1 on bad
   10.000s place l2 of job-2 on good
   10.030s gone l1 of job-1 on bad, Refused
   20.030s place l3 of job-1 on bad
   20.083s gone l3 of job-1 on bad, Refused
   30.083s place l4 of job-1 on bad
   30.111s gone l4 of job-1 on bad, Refused
   40.111s place l5 of job-1 on bad
   40.170s gone l5 of job-1 on bad, Refused
   50.170s place l6 of job-1 on bad
   50.225s gone l6 of job-1 on bad, Refused
   60.225s place l7 of job-1 on bad
   60.272s gone l7 of job-1 on bad, Refused
   70.055s place l8 of job-1 on good
   70.055s gone l2 of job-2 on good, Ended
   70.055s job-2 Completed after 1 attempts, waited 0 s, lost 0 s
   70.272s place l9 of job-3 on bad
   70.363s gone l9 of job-3 on bad, Refused
   80.363s place l10 of job-3 on bad
   80.439s gone l10 of job-3 on bad, Refused
   90.439s place l11 of job-3 on bad
   90.492s gone l11 of job-3 on bad, Refused
  100.492s place l12 of job-3 on bad
  100.554s gone l12 of job-3 on bad, Refused
  110.554s place l13 of job-3 on bad
  130.077s place l14 of job-4 on good
  130.077s gone l8 of job-1 on good, Ended
  130.077s job-1 Completed after 7 attempts, waited 59 s, lost 0 s
  170.603s gone l13 of job-3 on bad, Ended
  170.603s job-3 Completed after 5 attempts, waited 100 s, lost 0 s
  190.145s gone l14 of job-4 on good, Ended
  190.145s job-4 Completed after 1 attempts, waited 120 s, lost 0 s
disk_full 1
save_refused 20
