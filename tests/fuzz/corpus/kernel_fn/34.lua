return s .. 1
