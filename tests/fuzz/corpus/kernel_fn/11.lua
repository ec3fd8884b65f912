local x = 1
if j > i then x = s elseif i == 3 then x = 2 end
return x
