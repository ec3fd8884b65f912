return s $ 1
