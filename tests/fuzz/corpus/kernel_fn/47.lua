if i - j then return s end return 0
