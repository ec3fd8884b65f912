local a = 0
for n = 1, 3 do a = a + n * s end
return a
