// mqtt.js behind JSON lines: each line in is one thing to do, each line out its answer or a message.
import {createRequire} from 'module';
import {createInterface} from 'readline';
import {readFileSync} from 'fs';
const mqtt = createRequire(process.argv[2] + '/')('mqtt');
const say = value => process.stdout.write(JSON.stringify(value) + '\n');
let client;
// What mqtt.js still wanted to send while it was told to end is an error of nobody.
const forgive = () => { client.removeAllListeners('error'); client.on('error', () => {}); };
const does = {
  open: ({port, version, client_id, clean, will, files}, done) => {
    const options = {protocolVersion: version, clientId: client_id, clean, reconnectPeriod: 0};
    if (files) Object.assign(options, {
      ca: readFileSync(files.ca), cert: readFileSync(files.cert), key: readFileSync(files.key),
      rejectUnauthorized: true, checkServerIdentity: () => undefined});
    if (version === 5 && !clean) options.properties = {sessionExpiryInterval: 600};
    if (will) options.will = {...will, payload: Buffer.from(will.payload, 'base64')};
    client = mqtt.connect(`${files ? 'mqtts' : 'mqtt'}://127.0.0.1:${port}`, options);
    client.on('message', (topic, payload, packet) => say({message: {
      topic, payload: payload.toString('base64'), qos: packet.qos, retain: packet.retain}}));
    client.on('error', error => done({error: String(error)}));
    client.on('connect', packet => done({present: packet.sessionPresent}));
  },
  subscribe: ({topic, qos}, done) =>
    client.subscribe(topic, {qos}, (error, granted) => done({error: error && String(error), granted})),
  publish: ({topic, payload, qos, retain}, done) =>
    client.publish(topic, Buffer.from(payload, 'base64'), {qos, retain}, error => done({error: error && String(error)})),
  close: (_, done) => { forgive(); client.end(false, {}, () => done({})); },
  cut: (_, done) => { forgive(); client.stream.destroy(); done({}); },
};
createInterface({input: process.stdin})
  .on('line', line => { const asked = JSON.parse(line); does[asked.do](asked, answer => say({answer})); })
  .on('close', () => process.exit(0));
