local x = s * 0.5
local n = math.floor(math.log(math.abs(i - j) + 1) / math.log(2))
if i - j > 3 then x = x + 1 elseif j == 0 then return 2.0^(-8*(h+1)/8) * (j - i) end
for k = 1, 3 do x = x + T[1] * x end
return x + bias[b][i][j] + n + (i ~ j & 255 << 3 >> (j % 5 - 2))
--mask
local d = i - j
if d < 0 then return false end
return d % 3 == 0 or bias[b][i][live[b][j + 1]] > 0.25
