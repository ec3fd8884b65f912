local qn = require "quern"
return qn.attention {
  norm = qn.norm { wieght = function(s) return s end }, -- error: E-SPEC qn.norm wants a table with a function weight(s, m)
}
-- help: qn.norm { stat = "max", weight = .., rescale = .., finish =
