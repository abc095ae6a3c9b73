# Sixteen threads that make and drop strings of up to 8 KiB: the case that made MALLOC_ARENA_MAX=2
# famous. The threads stay, as those of a web server do. Commands come by standard input: a number
# of requests for each thread; `done` is the answer when they are over and what they left is
# collected.
THREADS = 16
STRINGS = 100 # of one request, alive together
MOST_BYTES = 8192

$stdout.sync = true
work = Queue.new
over = Queue.new
THREADS.times do |number|
  Thread.new do
    random = Random.new(number)
    while (requests = work.pop)
      requests.times { Array.new(STRINGS) { 'x' * random.rand(MOST_BYTES) } }
      over << true
    end
  end
end

$stdin.each_line do |line|
  THREADS.times { work << line.to_i }
  THREADS.times { over.pop }
  GC.start
  puts 'done'
end
