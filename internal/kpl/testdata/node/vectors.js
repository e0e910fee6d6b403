// Reads cases.json and writes node.json; see README.md.
'use strict';
const fs = require('fs');
const path = require('path');
const agg = require('aws-kinesis-agg');

const file = (name) => path.join(__dirname, name);
const cases = JSON.parse(fs.readFileSync(file('cases.json'), 'utf8'));

// A read of bytes that are not one of its aggregates is told as an error.
function decode(hex) {
  const out = { records: [], error: '' };
  const data = Buffer.from(hex, 'hex').toString('base64');
  agg.deaggregate({ data, partitionKey: 'outer', sequenceNumber: '1' }, true, (err, r) => {
    out.records.push({
      key: r.partitionKey,
      hashKey: r.explicitPartitionKey || '',
      sub: r.subSequenceNumber,
      data: Buffer.from(r.data, 'base64').toString('hex'),
    });
  }, (err) => { if (err) out.error = String(err.message); });
  return out;
}

function encode(c) {
  if (c.records.some((r) => r.headers)) return ''; // it writes no tags
  const a = new agg.RecordAggregator();
  for (const r of c.records) {
    const u = { partitionKey: r.key, data: Buffer.from(r.data, 'hex') };
    if (r.hashKey) u.explicitHashKey = r.hashKey;
    a.addUserRecord(u);
  }
  return a.build().data.toString('hex');
}

const out = cases.map((c) => ({ name: c.name, encoded: encode(c), decoded: decode(c.encoded) }));
fs.writeFileSync(file('node.json'), JSON.stringify(out, null, 1) + '\n');
