-- Work for a compiler that writes code while it runs: loops that become traces, branches that add side traces, calls that
-- are not compiled, and many small functions made at run time. Prints the same with the compiler and without.
local bit = require "bit"

local function sieve(limit)
    local composite, count = {}, 0
    for n = 2, limit do
        if not composite[n] then
            count = count + 1
            for multiple = n * n, limit, n do composite[multiple] = true end
        end
    end
    return count
end

local function fibonacci(n)
    if n < 2 then return n end
    return fibonacci(n - 1) + fibonacci(n - 2)
end

local function mandelbrot(size)
    local inside = 0
    for y = 0, size - 1 do
        for x = 0, size - 1 do
            local cr, ci, zr, zi, steps = 2 * x / size - 1.5, 2 * y / size - 1, 0, 0, 0
            while steps < 50 and zr * zr + zi * zi < 4 do
                zr, zi, steps = zr * zr - zi * zi + cr, 2 * zr * zi + ci, steps + 1
            end
            if steps == 50 then inside = inside + 1 end
        end
    end
    return inside
end

local function words(rounds)
    local seen, different = {}, 0
    for i = 1, rounds do
        local word = ("w%d"):format(i * 7919 % 1009):gsub("1", "one")
        if not seen[word] then seen[word], different = 0, different + 1 end
        seen[word] = seen[word] + #word
    end
    local names = {}
    for name in pairs(seen) do names[#names + 1] = name end
    table.sort(names, function(a, b) return seen[a] < seen[b] or seen[a] == seen[b] and a < b end)
    return different, names[1], names[#names]
end

-- Each function is new to the compiler: it makes traces for all of them.
local function generated(functions)
    local sum = 0
    for k = 1, functions do
        local text = ("local a = ... for i = 1, 200 do a = (a * %d + i) %% %d if a %% 7 == %d then a = a + 1 end end return a")
        local made = assert(loadstring(text:format(k % 13 + 2, 65521 - k, k % 7)))
        for i = 1, 5 do sum = (sum + made(i + k)) % 1000003 end
    end
    return sum
end

local function shifts(rounds)
    local x = 88172645
    for i = 1, rounds do
        x = bit.bxor(x, bit.lshift(x, 13))
        x = bit.bxor(x, bit.rshift(x, 17))
        x = bit.bxor(x, bit.lshift(x, 5))
        if bit.band(x, 15) == i % 16 then x = x + 1 end
    end
    return bit.tohex(x)
end

print("sieve", sieve(300000))
print("fibonacci", fibonacci(25))
print("mandelbrot", mandelbrot(100))
print("words", words(30000))
print("generated", generated(300))
print("shifts", shifts(1000000))
