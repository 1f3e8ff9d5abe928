   10.000s place l1 of early-lab-1 on bad
   10.000s place l2 of early-lab-2 on good-1
   10.000s place l3 of early-ai-1 on good-3
   10.000s place l4 of early-ai-2 on good-2
   30.016s gone l3 of early-ai-1 on good-3, Ended
   30.016s early-ai-1 Completed after 1 attempts, waited 0 s, lost 0 s
   30.033s gone l1 of early-lab-1 on bad, Ended
   30.033s early-lab-1 Completed after 1 attempts, waited 0 s, lost 0 s
   30.044s gone l4 of early-ai-2 on good-2, Ended
   30.044s early-ai-2 Completed after 1 attempts, waited 0 s, lost 0 s
   30.060s gone l2 of early-lab-2 on good-1, Ended
   30.060s early-lab-2 Completed after 1 attempts, waited 0 s, lost 0 s
   70.000s place l5 of lab-1 on bad
   70.000s place l6 of lab-2 on good-1
   70.000s place l7 of lab-3 on good-3
   70.000s place l8 of lab-4 on good-2
   71.086s place l9 of ai-1 on bad
   71.086s gone l5 of lab-1 on bad, Ended
   71.086s lab-1 Failed after 1 attempts, waited 0 s, lost 0 s
   72.162s place l10 of ai-2 on bad
   72.162s gone l9 of ai-1 on bad, Ended
   72.162s ai-1 Failed after 1 attempts, waited 1 s, lost 0 s
   73.224s gone l10 of ai-2 on bad, Ended
   73.224s ai-2 Failed after 1 attempts, waited 2 s, lost 0 s
  130.048s place l11 of ai-3 on good-1
  130.048s gone l6 of lab-2 on good-1, Ended
  130.048s lab-2 Completed after 1 attempts, waited 0 s, lost 0 s
  130.050s place l12 of ai-4 on good-3
  130.050s gone l7 of lab-3 on good-3, Ended
  130.050s lab-3 Completed after 1 attempts, waited 0 s, lost 0 s
  130.065s place l13 of lab-5 on good-2
  130.065s gone l8 of lab-4 on good-2, Ended
  130.065s lab-4 Completed after 1 attempts, waited 0 s, lost 0 s
  190.094s place l14 of ai-5 on good-3
  190.094s gone l12 of ai-4 on good-3, Ended
  190.094s ai-4 Completed after 1 attempts, waited 60 s, lost 0 s
  190.113s place l15 of lab-6 on good-2
  190.113s gone l13 of lab-5 on good-2, Ended
  190.113s lab-5 Completed after 1 attempts, waited 60 s, lost 0 s
  190.120s place l16 of ai-6 on good-1
  190.120s gone l11 of ai-3 on good-1, Ended
  190.120s ai-3 Completed after 1 attempts, waited 60 s, lost 0 s
  250.124s place l17 of lab-7 on good-2
  250.124s gone l15 of lab-6 on good-2, Ended
  250.124s lab-6 Completed after 1 attempts, waited 120 s, lost 0 s
  250.176s place l18 of ai-7 on good-1
  250.176s gone l16 of ai-6 on good-1, Ended
  250.176s ai-6 Completed after 1 attempts, waited 120 s, lost 0 s
  250.178s place l19 of ai-8 on good-3
  250.178s gone l14 of ai-5 on good-3, Ended
  250.178s ai-5 Completed after 1 attempts, waited 120 s, lost 0 s
  310.173s place l20 of lab-8 on good-2
  310.173s gone l17 of lab-7 on good-2, Ended
  310.173s lab-7 Completed after 1 attempts, waited 180 s, lost 0 s
  310.237s place l21 of ai-9 on good-1
  310.237s gone l18 of ai-7 on good-1, Ended
  310.237s ai-7 Completed after 1 attempts, waited 180 s, lost 0 s
  310.259s place l22 of lab-9 on good-3
  310.259s gone l19 of ai-8 on good-3, Ended
  310.259s ai-8 Completed after 1 attempts, waited 180 s, lost 0 s
  370.261s place l23 of ai-10 on good-2
  370.261s gone l20 of lab-8 on good-2, Ended
  370.261s lab-8 Completed after 1 attempts, waited 240 s, lost 0 s
  370.292s place l24 of lab-10 on good-1
  370.292s gone l21 of ai-9 on good-1, Ended
  370.292s ai-9 Completed after 1 attempts, waited 240 s, lost 0 s
  370.320s place l25 of ai-11 on good-3
  370.320s gone l22 of lab-9 on good-3, Ended
  370.320s lab-9 Completed after 1 attempts, waited 240 s, lost 0 s
  430.334s place l26 of lab-11 on good-2
  430.334s gone l23 of ai-10 on good-2, Ended
  430.334s ai-10 Completed after 1 attempts, waited 300 s, lost 0 s
  430.342s place l27 of ai-12 on good-1
  430.342s gone l24 of lab-10 on good-1, Ended
  430.342s lab-10 Completed after 1 attempts, waited 300 s, lost 0 s
  430.374s place l28 of lab-12 on good-3
  430.374s gone l25 of ai-11 on good-3, Ended
  430.374s ai-11 Completed after 1 attempts, waited 300 s, lost 0 s
  490.359s gone l26 of lab-11 on good-2, Ended
  490.359s lab-11 Completed after 1 attempts, waited 360 s, lost 0 s
  490.381s gone l27 of ai-12 on good-1, Ended
  490.381s ai-12 Completed after 1 attempts, waited 360 s, lost 0 s
  490.399s gone l28 of lab-12 on good-3, Ended
  490.399s lab-12 Completed after 1 attempts, waited 360 s, lost 0 s
broken 1
node_drained 1
