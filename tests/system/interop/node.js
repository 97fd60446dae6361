// A client on node-mqtt, for test_broker_interop.py; arguments and output as of paho.c.
const fs = require("fs");
const mqtt = require("mqtt");

const [what, uri, version, ca, ...rest] = process.argv.slice(2);
const options = {
    protocolVersion: Number(version),
    clientId: `node-${process.pid}`,
    reconnectPeriod: 0,
};
if (ca !== "-")
    options.ca = fs.readFileSync(ca);

function fail(error) {
    if (!error)
        return;
    console.error(error);
    process.exit(1);
}

function subscribe(filter, qos, topic, payload) {
    options.will = { topic, payload, qos: 1, retain: false };
    const client = mqtt.connect(uri, options);
    client.on("error", fail);
    client.on("message", (from, message, packet) =>
        console.log(from, packet.qos, packet.retain ? 1 : 0, message.toString()));
    client.on("connect", () => client.subscribe(filter, { qos: Number(qos) }, (error) => {
        fail(error);
        console.log("ready");
    }));
}

function publish(messages) {
    const client = mqtt.connect(uri, options);
    const next = () => {
        if (messages.length === 0) {
            client.end(false, {}, () => process.exit(0));
            return;
        }
        const [topic, payload, qos, retain] = messages.splice(0, 4);
        client.publish(topic, payload, { qos: Number(qos), retain: retain === "1" }, (error) => {
            fail(error);
            next();
        });
    };
    client.on("error", fail);
    client.on("connect", next);
}

if (what === "sub")
    subscribe(...rest);
else
    publish(rest);
