return #T
