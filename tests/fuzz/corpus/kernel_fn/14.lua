for n = 3, 1, -1 do s = s + n end
return s
