if j > 0 then return s + live[b][j - 1] end
return s
