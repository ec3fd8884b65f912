local qn = require "quern"
local function f(x) return f(x) end -- error: E-RECUR this call reaches the function that it is in
return qn.attention {
  score = function(s, b, h, i, j)
    return f(s)
  end,
}
-- help: kernel functions are inlined: write a `for` with constant bo
