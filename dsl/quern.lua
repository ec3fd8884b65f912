-- The module that a spec requires. Constructors make tagged tables, which the frontend reads; masks
-- compose with & | ~ since functions and masks share a metatable. `inner` is what C gives, `own` the
-- builtins on scalars. Functions that a spec calls pass through `entry`, a C function: so the line of
-- a call such as `return qn.attention { .. }`, which Lua would forget, is still known.
local inner, own = ...
local tagged, tag_of, fail = inner.tagged, inner.tag_of, inner.fail
local qn = {}
local constant = { __metatable = false }
for name, f in pairs(own) do
  qn[name] = f
end

-- The known word nearest to a misspelt one: the fewest letters to change.
local function nearest(word, ...)
  local best, least = nil, 1e9
  for _, known in ipairs { ... } do
    for w in pairs(known) do
      local row = {}
      for k = 0, #w do
        row[k] = k
      end
      for a = 1, #word do
        local diagonal = row[0]
        row[0] = a
        for k = 1, #w do
          local here = math.min(row[k] + 1, row[k - 1] + 1, diagonal + (word:byte(a) == w:byte(k) and 0 or 1))
          diagonal, row[k] = row[k], here
        end
      end
      if row[#w] < least or (row[#w] == least and w < best) then
        best, least = w, row[#w]
      end
    end
  end
  return best
end

---------------------------------------------------------------- masks

local mask = { __metatable = false }

local function is_mask(x)
  local tag = tag_of(x)
  return type(x) == "function" or type(x) == "boolean" or tag == "and" or tag == "or" or tag == "not" or tag == "document"
end

local function need_mask(x)
  if not is_mask(x) then
    fail("E-SPEC", "a mask is a function (b, h, i, j) or a combination of masks, not a " .. type(x), "combine with & | ~")
  end
  return x
end

function mask.__band(a, b)
  return tagged("and", { need_mask(a), need_mask(b) }, mask)
end

function mask.__bor(a, b)
  return tagged("or", { need_mask(a), need_mask(b) }, mask)
end

function mask.__bnot(a)
  return tagged("not", { need_mask(a) }, mask)
end

-- Masks can be called like functions, by Lua itself too.
local function holds(m, b, h, i, j)
  local tag = tag_of(m)
  if type(m) == "boolean" then
    return m
  elseif tag == "and" then
    return holds(m[1], b, h, i, j) and holds(m[2], b, h, i, j)
  elseif tag == "or" then
    return holds(m[1], b, h, i, j) or holds(m[2], b, h, i, j)
  elseif tag == "not" then
    return not holds(m[1], b, h, i, j)
  elseif tag then
    fail("E-SPEC", "a document mask needs data, so it cannot be called here")
  end
  return m(b, h, i, j)
end

function mask.__call(m, b, h, i, j)
  return holds(m, b, h, i, j)
end

inner.set_function_metatable { __band = mask.__band, __bor = mask.__bor, __bnot = mask.__bnot, __metatable = false }

---------------------------------------------------------------- declarations

local dtypes = { bool = true, u8 = true, i8 = true, i16 = true, i32 = true, i64 = true, f16 = true, bf16 = true, f32 = true, f64 = true }

local function need_name(name, what)
  if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
    fail("E-NAME", what .. " wants a name of letters, digits and _ as its first argument", 'for example "slope"')
  end
end

local function need_dtype(dtype, what)
  if not dtypes[dtype] then
    fail("E-DTYPE", what .. " wants an element type, not " .. tostring(dtype), "one of bool u8 i8 i16 i32 i64 f16 bf16 f32 f64")
  end
end

-- A run-time input that the kernel reads: slope[h] in a kernel function (0-based).
function qn.tensor(name, dtype, dims, options)
  need_name(name, "qn.tensor")
  need_dtype(dtype, "qn.tensor")
  if type(dims) ~= "table" then
    fail("E-DIM", "qn.tensor wants a table of dimensions as its third argument", '{ "Hq", "Nk" } or {} with numbers')
  end
  if options ~= nil and type(options) ~= "table" then
    fail("E-SAMPLE", "qn.tensor wants a table of options as its fourth argument", "{ sample = { 0, 7 } }")
  end
  for option in pairs(options or {}) do
    if option ~= "sample" then
      fail("E-SAMPLE", "qn.tensor has no option " .. tostring(option), "{ sample = { 0, 7 } }")
    end
  end
  local sample = options and options.sample
  return tagged("tensor", { name = name, dtype = dtype, dims = dims, sample = sample, order = inner.next_order() }, constant)
end

-- A run-time scalar with a default.
function qn.param(name, dtype, default)
  need_name(name, "qn.param")
  need_dtype(dtype, "qn.param")
  if default ~= nil and type(default) ~= "number" and type(default) ~= "boolean" then
    fail("E-SPEC", "the default of a parameter is a number, not a " .. type(default))
  end
  return tagged("param", { name = name, dtype = dtype, default = default, order = inner.next_order() }, constant)
end

-- A size as an integer inside kernel functions.
function qn.dim(name)
  need_name(name, "qn.dim")
  return tagged("dim", { name = name }, constant)
end

qn.last = tagged("position", { kind = "last" }, constant)
qn.rows = tagged("position", { kind = "rows" }, constant)

-- A number of a head, for named parts: what was given as a kernel function (b, h).
local function value(x, what)
  local tag = tag_of(x)
  if tag == "tensor" then
    local first, second, rank = x.dims[1], x.dims[2], #x.dims
    if rank == 1 and first == "Hq" then
      return function(b, h) return x[h] end
    elseif rank == 1 and first == "B" then
      return function(b, h) return x[b] end
    elseif rank == 2 and first == "B" and second == "Hq" then
      return function(b, h) return x[b][h] end
    end
    fail("E-SPEC", what .. " takes a tensor over Hq, B or both", 'qn.tensor(name, dtype, { "Hq" })')
  elseif type(x) == "number" or tag == "param" or tag == "dim" then
    return function(b, h) return x end
  elseif type(x) == "function" then
    return x
  end
  fail("E-SPEC", what .. " takes a number, a parameter, a tensor over Hq or a function (b, h), not " .. (tag and "qn." .. tag or type(x)))
end

---------------------------------------------------------------- masks that need data

function qn.document(cu)
  if tag_of(cu) ~= "tensor" then
    fail("E-SPEC", "qn.document wants the tensor of offsets", 'qn.document(qn.tensor("cu", "i32", { "Ndoc+1" }))')
  end
  return tagged("document", { cu = cu }, mask)
end

---------------------------------------------------------------- norms

local norm = {}
local named = { __metatable = false }

-- qn.norm.softmax, and qn.norm.softmax { sink = T }.
function named.__call(n, options)
  if options == nil then
    return n
  end
  if type(options) ~= "table" or n.kind ~= "softmax" then
    fail("E-SPEC", "the norm " .. n.kind .. " has no options", "only softmax has one: { sink = .. }")
  end
  for key in pairs(options) do
    if key ~= "sink" then
      fail("E-SPEC", "softmax has no option '" .. tostring(key) .. "'", "its only option is sink")
    end
  end
  return tagged("norm", { kind = "softmax", sink = options.sink }, named)
end

local kinds = { softmax = true, sigmoid = true, relu = true, relu2 = true, linear = true, none = true }

local parts = { stat = true, weight = true, rescale = true, finish = true }
setmetatable(norm, {
  __metatable = false,
  -- Made where it is named, so that an error can point there.
  __index = function(_, kind)
    if not kinds[kind] then
      fail("E-SPEC", "there is no norm '" .. tostring(kind) .. "'", "did you mean " .. nearest(tostring(kind):sub(1, 40), kinds) .. "?")
    end
    return tagged("norm", { kind = kind }, named)
  end,
  __call = function(_, t)
    if type(t) ~= "table" or type(t.weight) ~= "function" then
      fail("E-SPEC", "qn.norm wants a table with a function weight(s, m)", "qn.norm { stat = \"max\", weight = .., rescale = .., finish = .. }")
    end
    for key in pairs(t) do
      if not parts[key] then
        fail("E-SPEC", "a norm has no part '" .. tostring(key) .. "'", "its parts are stat, weight, rescale and finish")
      end
    end
    return tagged("norm", { kind = "user", stat = t.stat, weight = t.weight, rescale = t.rescale, finish = t.finish }, constant)
  end,
})
qn.norm = norm

---------------------------------------------------------------- the mechanism

local group_knobs = { score = true, mask = true, scale = true, norm = true, out = true }
local top_knobs = { name = true, position = true, outputs = true, heads = true }

local function check_knobs(t, what, ...)
  for key in pairs(t) do
    local known = false
    for _, set in ipairs { ... } do
      known = known or set[key]
    end
    if not known and type(key) == "string" then
      fail("E-KNOB", what .. " has no knob '" .. key .. "'", "did you mean " .. nearest(key:sub(1, 40), ...) .. "?")
    elseif type(key) ~= "string" then
      fail("E-KNOB", what .. " takes names, not a list (" .. tostring(key) .. ")")
    end
  end
end

function qn.attention(t)
  if type(t) ~= "table" then
    fail("E-SPEC", "qn.attention wants a table of knobs", "qn.attention { mask = qn.causal }")
  end
  check_knobs(t, "qn.attention", group_knobs, top_knobs)
  if t.heads ~= nil and type(t.heads) ~= "table" then
    fail("E-HEADS", "heads wants a list of groups", "heads = { { when = function(h) .. end, mask = .. }, { .. } }")
  end
  for _, g in ipairs(t.heads or {}) do
    if type(g) ~= "table" then
      fail("E-HEADS", "a group of heads is a table of knobs, not a " .. type(g))
    end
    check_knobs(g, "a group of heads", group_knobs, { when = true })
  end
  local spec = {}
  for key, value in pairs(t) do
    spec[key] = value
  end
  return tagged("attention", spec, constant)
end

---------------------------------------------------------------- what a file returns

-- The spec that was asked for. One without a name takes its key in the table.
local function choose(result, pick)
  local function named(spec, name)
    if rawget(spec, "name") == nil then
      rawset(spec, "name", name)
    end
    return spec
  end
  if tag_of(result) == "attention" then
    if pick then
      fail("E-PICK", "the file returns one spec, so it has none of the name " .. pick, "leave the name away")
    end
    return named(result, "attention")
  end
  local found, names = nil, {}
  if type(result) == "table" then
    for key, value in pairs(result) do
      if type(key) == "string" and tag_of(value) == "attention" then
        names[#names + 1] = key
        if not pick or key == pick then
          found = named(value, key)
        end
      end
    end
  end
  if #names == 0 then
    fail("E-SPEC", "the file returns no spec", "end it with `return qn.attention { .. }`")
  elseif not found then
    fail("E-PICK", "there is no spec " .. pick, "write FILE:NAME with one of " .. table.concat(names, " ", 1, math.min(#names, 30)))
  elseif #names > 1 and not pick then
    fail("E-PICK", "the file returns several specs", "write FILE:NAME with one of " .. table.concat(names, " ", 1, math.min(#names, 30)))
  end
  return found
end

for name, f in pairs(qn) do
  if type(f) == "function" then
    qn[name] = inner.entry(f)
  end
end

setmetatable(qn, {
  __metatable = false,
  __index = function(_, name)
    local known = {}
    for key in pairs(qn) do
      known[key] = true
    end
    fail("E-NAME", "qn has no '" .. tostring(name) .. "'", "did you mean " .. nearest(tostring(name):sub(1, 40), known) .. "?")
  end,
})

return qn, choose, value
