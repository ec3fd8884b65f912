return 3x
