local a = 0 for n = 1, i do a = a + n end return a
