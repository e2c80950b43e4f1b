-- For wrk: its threads take the ports of $PORTS in turn; what was seen is one line of figures (durations in µs).
local ports, threads = {}, 0
for port in os.getenv("PORTS"):gmatch("%d+") do
  ports[#ports + 1] = port
end

function setup(thread)
  thread.addr = wrk.lookup("127.0.0.1", ports[threads % #ports + 1])[1]
  threads = threads + 1
end

function done(summary, latency)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  print("figures", summary.requests, summary.duration, errors, latency:percentile(99))
end
