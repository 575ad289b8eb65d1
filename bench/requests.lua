-- For wrk: requests one after another from a file. A line is METHOD, path, If-None-Match and body, with tabs between.
-- Usage: wrk … -s requests.lua URL -- FILE        What it finds is printed as one line of JSON.
local prepared, at = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local method, path, tag, body = line:match("^(%u+)\t([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = { ["Content-Type"] = "application/json" }
    if tag ~= "" then headers["If-None-Match"] = tag end
    prepared[#prepared + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
  end
end

function request()
  at = at % #prepared + 1
  return prepared[at]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,"failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
