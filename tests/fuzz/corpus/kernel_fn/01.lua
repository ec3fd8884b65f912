return 2 * s
