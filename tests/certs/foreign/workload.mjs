// The SPIFFE Workload API with grpc-js, as client or as server; messages are base64 lines.
// node workload.mjs FOLDER client SOCKET METHOD   prints {"message": …} and at the end {"status": …}
// node workload.mjs FOLDER server SOCKET          pushes each line that it reads; "-" refuses
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, role, socket, method] = process.argv.slice(2);
const grpc = createRequire(`${folder}/`)("@grpc/grpc-js");
const plain = (bytes) => bytes;
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

function client() {
  const made = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  if (!process.env.WITHOUT_HEADER) metadata.set("workload.spiffe.io", "true");
  const call = made.makeServerStreamRequest(
    `/SpiffeWorkloadAPI/${method}`, plain, plain, Buffer.alloc(0), metadata,
  );
  call.on("data", (bytes) => say({ message: bytes.toString("base64") }));
  call.on("error", () => {});
  call.on("status", ({ code, details }) => { say({ status: code, details }); made.close(); });
}

function server() {
  const streams = new Set();
  let last = null;
  const push = (stream) => {
    if (last === null) return;
    if (last.length > 0) stream.write(last);
    else stream.emit("error", { code: grpc.status.PERMISSION_DENIED, details: "no identity issued" });
  };
  const made = new grpc.Server();
  const definition = {
    fetch: {
      path: "/SpiffeWorkloadAPI/FetchX509SVID", requestStream: false, responseStream: true,
      requestSerialize: plain, requestDeserialize: plain,
      responseSerialize: plain, responseDeserialize: plain,
    },
  };
  made.addService(definition, {
    fetch(stream) {
      streams.add(stream);
      stream.on("cancelled", () => streams.delete(stream));
      push(stream);
    },
  });
  made.bindAsync(`unix:${socket}`, grpc.ServerCredentials.createInsecure(), (error) => {
    say({ ready: error === null });
  });
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    last = Buffer.from(line === "-" ? "" : line, "base64");
    streams.forEach(push);
  });
  lines.on("close", () => made.forceShutdown());
}

({ client, server })[role]();
