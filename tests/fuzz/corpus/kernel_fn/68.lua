return s
--mask
return j <= i and (j < 4 or i - j < W) and live[b][j] ~= 0
