local a = 0 for n = 1, 1e9 do a = a + s end return a
