   10.000s place l1 of long on node
  121.332s evict l1 of long on node BudgetExhausted
  129.390s gone l1 of long on node, BudgetExhausted
  129.390s long OutOfBudget after 1 attempts, waited 0 s, lost 0 s
