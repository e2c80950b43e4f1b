Bun.serve({ hostname: "127.0.0.1", port: process.argv[2], fetch: () => new Response(`pid=${process.pid}\n`) });
