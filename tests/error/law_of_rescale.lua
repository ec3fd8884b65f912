local qn = require "quern"
return qn.attention {
  norm = qn.norm {
    stat = "max",
    weight = function(s, m) return math.exp(s - m) end,
    rescale = function(m0, m1) return 1.0 end, -- error: E-LAW breaks a law
  },
}
-- help: weight(s, m2) = weight(s, m1) * rescale(m1, m2), and rescale
