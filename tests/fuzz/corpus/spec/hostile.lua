local t = setmetatable({}, { __index = function(t, k) return ("x"):rep(k) end })
while true do pcall(function() t[#t + 1] = { t[9] .. tostring(t):gsub("%w+", "%0%0") } table.sort(t, function(a, b) return a[1] < b[1] end) end) end
