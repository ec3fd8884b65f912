local x, y = half(s, j), half(s)
return x + y
