"""A processor of the MultiLangDaemon: it writes each record that it is given, and each end of a shard, as a line of JSON.

SHARDLOG_SEEN names the folder for the lines; each process writes a file of its own.
"""

import json
import os

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor


class Recorder(processor.RecordProcessorBase):
    def initialize(self, initialize_input):
        self.shard = initialize_input.shard_id
        self.out = open(os.path.join(os.environ["SHARDLOG_SEEN"], f"{self.shard}.{os.getpid()}.jsonl"), "w", encoding="utf-8")

    def write(self, event, **more):
        json.dump({"event": event, "shard": self.shard, **more}, self.out)
        self.out.write("\n")
        self.out.flush()

    def process_records(self, process_records_input):
        for r in process_records_input.records:
            self.write("record", data=r.binary_data.decode(), key=r.partition_key, number=r.sequence_number,
                       sub=r.sub_sequence_number, arrived=r.approximate_arrival_timestamp.timestamp())
        process_records_input.checkpointer.checkpoint()

    def lease_lost(self, lease_lost_input):
        self.write("lost")

    def shard_ended(self, shard_ended_input):
        shard_ended_input.checkpointer.checkpoint()
        self.write("ended")

    def shutdown_requested(self, shutdown_requested_input):
        shutdown_requested_input.checkpointer.checkpoint()
        self.write("stopped")


if __name__ == "__main__":
    kcl.KCLProcess(Recorder()).run()
