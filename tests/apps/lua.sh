#!/bin/bash
# lua on the library computes the same as without: all its memory goes through realloc and free,
# with tables that rehash, strings of every length, coroutines, weak tables and finalizers.
. "$(dirname "$0")/lib.sh"
need lua5.4

write_program() {
    cat >program.lua <<'PROGRAM'
local maps = arg[1]

local function keep_maps(name)
  local from = assert(io.open("/proc/self/maps"))
  local to = assert(io.open(maps .. "/" .. name, "w"))
  to:write(from:read("a"))
  from:close()
  assert(to:close())
end

-- A fixed sequence of pseudo-random numbers (Park and Miller's).
local function numbers(seed, count, below)
  return coroutine.wrap(function()
    for i = 1, count do
      seed = seed * 16807 % 2147483647
      coroutine.yield(seed % below, i)
    end
  end)
end

-- FNV-1a over all the bytes of a text.
local function digest(text)
  local sum = 0xcbf29ce484222325
  for i = 1, #text do sum = (sum ~ text:byte(i)) * 0x100000001b3 end
  return string.format("%d:%016x", #text, sum)
end

local tests = {}

function tests.tables()
  local made, keys = {}, {}
  for n, i in numbers(1, 300000, 40000) do
    made["key" .. n] = { i, tostring(n):rep(n % 12), x = { n } }
    if n % 3 == 0 then made["key" .. n // 2] = nil end
    made[n] = (made[n] or 0) + 1
  end
  for key in pairs(made) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  local parts = {}
  for i, key in ipairs(keys) do
    local value = made[key]
    parts[i] = key .. "=" .. (type(value) == "table" and value[1] .. value[2] .. value.x[1] or value)
  end
  return digest(table.concat(parts, ";"))
end

function tests.strings()
  local pieces = {}
  for n, i in numbers(2, 60000, 300) do
    pieces[#pieces + 1] = string.char(33 + n % 90):rep(n) .. string.format("%5d|%s", i, n)
    if n % 90 == 0 then pieces = { table.concat(pieces):sub(-300000) } end
  end
  local text = table.concat(pieces, "\n")
  local changed, count = text:gsub("(%d+)|(%d+)", "%2,%1")
  return digest(changed) .. " " .. count .. " " .. digest(changed:reverse():upper():sub(1, 100000))
end

-- One string that grows a little at a time: every step is a new block and the old one's end.
function tests.growth()
  local text = ""
  for n in numbers(3, 4000, 60) do text = text .. ("g"):rep(n) .. n end
  return digest(text)
end

function tests.coroutines()
  local sum, waiting = 0, {}
  for n in numbers(4, 60000, 1000) do
    local co = coroutine.wrap(function(a)
      local kept = { a, ("c"):rep(a % 50) }
      local b = coroutine.yield(#kept[2])
      return kept[1] + b
    end)
    sum = sum + co(n)
    waiting[#waiting + 1] = co
    if #waiting > 2000 then sum = sum + table.remove(waiting, 1 + n % 2000)(n) end
  end
  return sum
end

function tests.finalizers()
  local finalized, weak = 0, setmetatable({}, { __mode = "v" })
  local meta = { __gc = function(object) finalized = finalized + #object.load end }
  for n, i in numbers(5, 100000, 64) do
    weak[i] = setmetatable({ load = ("f"):rep(n) }, meta)
  end
  collectgarbage()
  collectgarbage()
  return finalized .. " " .. tostring(next(weak))
end

function tests.large()
  local parts = {}
  for n in numbers(6, 40, 3000000) do
    local text = string.rep(n .. ",", n // 8)
    parts[#parts + 1] = #text .. text:sub(-20) .. text:sub(n // 2, n // 2 + 20)
  end
  local array = table.pack(table.unpack(parts))
  local numbers_only = {}
  for i = 1, 3000000 do numbers_only[i] = i end
  return digest(table.concat(array)) .. " " .. #numbers_only
end

-- Programs compiled at run time, each with constants of its own.
function tests.load()
  local sum = 0
  for n in numbers(7, 6000, 100000) do
    sum = sum + assert(load("local a = " .. n .. " local t = {'" .. n .. "', a} return #t[1] + t[2]"))()
  end
  return sum
end

keep_maps("main")
local names = {}
for name in pairs(tests) do names[#names + 1] = name end
table.sort(names)
for _, mode in ipairs { "incremental", "generational" } do
  collectgarbage(mode)
  for _, name in ipairs(names) do print(mode, name, tests[name]()) end
end
PROGRAM
}

work() {
    write_program
    run lua5.4 program.lua "$maps" >"$results/output" 2>"$logs/stderr"
    cp "$logs/stderr" "$results/stderr"
}

calls_go_to_library lua5.4 -e 'assert(os.execute("cat /dev/null"))'
compare_runs work
