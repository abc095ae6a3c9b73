#!/bin/bash
# ruby on the library computes the same as without: 16 threads that make and drop strings, the
# collector under stress and compacting, forks, Marshal, large strings that grow and shrink.
. "$(dirname "$0")/lib.sh"
need ruby

write_program() {
    cat >program.rb <<'PROGRAM'
require 'digest/sha2' # by name: threads must not meet in its autoload
require 'fileutils'
require 'json'
require 'stringio'
require 'zlib'

$stdout.sync = true
Digest::SHA256.hexdigest('loaded before any thread asks for it')
MAPS = ARGV.fetch(0)

def keep_maps(name)
  File.write(File.join(MAPS, name), File.read('/proc/self/maps'))
end

# A fixed sequence of pseudo-random numbers (Park and Miller's).
def numbers(seed, count, below)
  Array.new(count) { (seed = seed * 16807 % 2147483647) % below }
end

def digest(*parts)
  Digest::SHA256.hexdigest(parts.map(&:to_s).join("\0"))
end

def objects(seed, count)
  made = {}
  numbers(seed, count, 8000).each_with_index do |n, i|
    made["key#{n}"] = [i, 'x' * (n % 150), { n: n, half: n / 2.0 }, :"symbol#{n % 50}"]
    made["large#{n}"] = 'y' * (n * 50_000) if n < 8
    made.delete("key#{n / 2}") if (n % 3).zero?
  end
  made
end

# What one thread makes another drops; the pattern that grows most heaps without end.
def threads
  shelf = Queue.new
  workers = Array.new(16) do |i|
    Thread.new do
      keep_maps("thread-#{i}")
      sums = Digest::SHA256.new
      numbers(i + 1, 8000, 4000).each do |n|
        text = (n.to_s * (1 + n % 700)).tr('0-9', 'k-t')
        shelf << text
        shelf.pop if shelf.size > 1000
        sums << text.reverse
      end
      sums.hexdigest
    end
  end
  digest(*workers.map(&:value))
end

def collector_stress
  GC.stress = true
  made = objects(3, 60)
  GC.stress = false
  digest(made.sort.inspect)
end

def compaction
  return 'no compaction here' unless GC.respond_to?(:compact)

  kept = objects(4, 20_000)
  5.times do |round|
    kept.delete_if { |key, _| key.sum % 5 == round }
    GC.compact
    kept.merge!(objects(round + 10, 2000))
  end
  digest(kept.sort_by(&:first).inspect)
rescue NotImplementedError
  'no compaction here'
end

def forks
  results = Array.new(10) do |round|
    noise = Array.new(2) { Thread.new { 20.times { objects(round, 200) } } }
    from, to = IO.pipe
    child = fork do
      keep_maps("child-#{Process.pid}")
      from.close
      to.write(digest(objects(round, 4000).sort.inspect))
      to.close
    end
    to.close
    text = from.read
    Process.wait(child)
    raise "child ended with #{$?}" unless $?.success?

    noise.each(&:join)
    text
  end
  digest(*results)
end

def marshal
  data = objects(5, 15_000)
  dump = Marshal.dump(data)
  raise 'Marshal lost something' unless Marshal.load(dump) == data

  digest(dump, JSON.parse(JSON.generate(data)).inspect)
end

def growth
  text = +''
  numbers(6, 30_000, 500).each do |n|
    text << (33 + n % 90).chr * n
    text.slice!(0, 3000) if (n % 60).zero?
  end
  packed = Zlib.deflate(text, 6)
  digest(text, packed, Zlib.inflate(packed) == text)
end

def containers
  rows = numbers(7, 120_000, 1 << 30)
  sorted = rows.sort_by { |n| [n % 101, n] }
  words = rows.map { |n| n.to_s(36) }.uniq.sort
  matches = words.join(' ').scan(/\b(\w)(\w+)\1\b/).tally.sort
  digest(sorted, words, matches, (3**30_000).to_s, rows.each_slice(7).map(&:sum))
end

# Each fiber has a stack of its own, mapped and unmapped.
def fibers
  digest(*Array.new(600) { |i| Fiber.new { x = 'f' * i; Fiber.yield x; x * 2 } }.map { |f| f.resume + f.resume })
end

keep_maps('main')
%i[threads collector_stress compaction forks marshal growth containers fibers].each do |test|
  puts "#{test} #{send(test)}"
end
puts "command #{`echo from a shell`}"
GC.start
PROGRAM
}

work() {
    write_program
    run ruby program.rb "$maps" >"$results/output" 2>"$logs/stderr"
    cp "$logs/stderr" "$results/stderr"
}

calls_go_to_library ruby -e 'system("cat", "/dev/null") or raise'
compare_runs work
