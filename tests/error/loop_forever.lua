local qn = require "quern"
while true do end -- error: E-FUEL the spec does not finish: its budget of steps is spent
return qn.attention {}
-- help: a spec builds tables and functions; it has no reason to loop
