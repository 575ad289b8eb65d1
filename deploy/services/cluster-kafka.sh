# shellcheck shell=bash
# Three Kafka brokers, each a controller, too. Topics have three copies, and a message is stored once two have it.
# Sourced by clusters.sh.

readonly KAFKA_CLUSTER_ID=raingaugeraingaugeraing

cluster_kafka_missing_packages() { kafka_missing_packages; }
cluster_kafka_ports() { printf '%s\n' 9192 9193 9194; }
cluster_kafka_port() { echo $((9191 + $1)); }

cluster_kafka_up() {
  local node
  kafka_fetch
  for node in 1 2 3; do cluster_kafka_format "$node" & done
  wait
  for node in 1 2 3; do cluster_kafka_launch "$node"; done
  for node in 1 2 3; do await_node kafka "$node"; done
}

cluster_kafka_format() {
  local home
  home=$(home_of "kafka-$1")
  mkdir -p "$home"
  cluster_kafka_properties "$1" "$home/data" >"$home/server.properties"
  "${KAFKA_JAVA[@]}" -Xmx128m kafka.tools.StorageTool format --cluster-id "${KAFKA_CLUSTER_ID:0:22}" \
    --config "$home/server.properties" >"$LOG/kafka-$1-format.log" 2>&1 </dev/null ||
    die_with_log kafka "cannot format its data folder" "$LOG/kafka-$1-format.log"
}

cluster_kafka_launch() {
  spawn "kafka-$1" "${KAFKA_JAVA[@]}" -Xmx384m kafka.Kafka "$(home_of "kafka-$1")/server.properties"
}

# It lists itself in its metadata only once it has joined the cluster.
cluster_kafka_answers() {
  local port
  port=$(cluster_kafka_port "$1")
  port_open "$port" && python3 -I "$HERE/kafka/answers.py" "$port" 2>/dev/null
}

# cluster_kafka_properties NODE DATA
cluster_kafka_properties() {
  local port voters=1@127.0.0.1:9195,2@127.0.0.1:9196,3@127.0.0.1:9197
  port=$(cluster_kafka_port "$1")
  cat <<EOP
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$voters
listeners=CLIENT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((9194 + $1))
advertised.listeners=CLIENT://127.0.0.1:$port
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs=$2
auto.create.topics.enable=false

# As in production: three copies of everything, and two of them before a message counts as stored.
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
share.coordinator.state.topic.num.partitions=1

# Quick to notice a dead broker, so that a test need not wait; the defaults take 9 s and more.
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=2097152
log.index.size.max.bytes=1048576
EOP
}
