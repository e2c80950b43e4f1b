require "webrick"

quiet = WEBrick::Log.new(File::NULL)
server = WEBrick::HTTPServer.new(Port: ARGV[0].to_i, BindAddress: "127.0.0.1", Logger: quiet, AccessLog: [])
server.mount_proc("/") { |_, response| response.body = "pid=#{Process.pid}\n" }
%w[INT TERM].each { |name| trap(name) { server.shutdown } }
server.start
