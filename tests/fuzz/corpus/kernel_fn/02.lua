return s + 7 // 2 - 7 % -3 + 2^3
