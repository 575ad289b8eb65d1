# shellcheck shell=bash
# Kafka: one broker that is its own controller (KRaft), from Maven artefacts. Sourced by services.sh.

readonly KAFKA_PORTS=(9092 9093 9094) # clients, controller, inspection
readonly KAFKA_HOME=$STATE/kafka
readonly KAFKA_POM=$HERE/kafka/pom.xml
readonly KAFKA_FETCHER=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# A test broker lives for minutes: the first compiler and the plain collector start faster and leave the cores alone.
readonly KAFKA_JAVA=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true
  -Dlog4j2.configurationFile="$HERE/kafka/log4j2.properties" -cp "$KAFKA_HOME/libs/*")

kafka_ports() { printf '%s\n' "${KAFKA_PORTS[@]}"; }
kafka_mark() { echo "$KAFKA_HOME/server.properties"; }
kafka_stop_signal() { echo TERM; }
kafka_sweep() { :; }
kafka_data() { echo "$KAFKA_HOME/data"; }
kafka_wipe() { rm -rf "$KAFKA_HOME"/data{,.new}; }

kafka_missing_packages() {
  have javac || echo openjdk-17-jdk-headless # a test compiles a few lines
  have python3 || echo python3
  if [[ ! -d $(kafka_libs) ]] && ! have mvn; then echo maven; fi
}

# Named by the hash of the pom, so a new version is fetched and a known one is not.
kafka_libs() {
  local hash
  hash=$(sha256sum <"$KAFKA_POM")
  echo "$KAFKA_HOME/libs-${hash:0:12}"
}

kafka_prepare() {
  kafka_fetch
  kafka_format
  kafka_properties "$(kafka_data)" >"$KAFKA_HOME/server.properties"
}

kafka_fetch() {
  local libs version
  libs=$(kafka_libs)
  if [[ ! -d $libs ]]; then
    version=$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$KAFKA_POM")
    say kafka "fetches Kafka $version with Maven"
    rm -rf "$KAFKA_HOME"/libs-*
    # Named in full: with the short name, a refused connection is reported as an unknown plugin.
    mvn -B -q -f "$KAFKA_POM" "$KAFKA_FETCHER:copy-dependencies" \
      -DincludeScope=runtime -DoutputDirectory="$libs.new" >"$LOG/maven.log" 2>&1 </dev/null ||
      die_with_log kafka "cannot fetch its files" "$LOG/maven.log"
    mv "$libs.new" "$libs"
  fi
  ln -sfn "${libs##*/}" "$KAFKA_HOME/libs"
}

# Formatted under another name and then renamed, so that a run cut short leaves nothing half made.
kafka_format() {
  local data fresh id
  data=$(kafka_data)
  if [[ -d $data ]]; then return; fi
  say kafka "formats its data folder"
  fresh=$data.new
  rm -rf "$fresh"
  # 16 random bytes in base64, without the two characters that a command line or a path could take amiss.
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab')
  kafka_properties "$fresh" >"$KAFKA_HOME/format.properties"
  "${KAFKA_JAVA[@]}" -Xmx128m kafka.tools.StorageTool format --cluster-id "${id:0:22}" \
    --config "$KAFKA_HOME/format.properties" >"$LOG/kafka-format.log" 2>&1 </dev/null ||
    die_with_log kafka "cannot format its data folder" "$LOG/kafka-format.log"
  rm "$KAFKA_HOME/format.properties"
  mv "$fresh" "$data"
}

kafka_launch() { spawn kafka "${KAFKA_JAVA[@]}" -Xms512m -Xmx512m kafka.Kafka "$(kafka_mark)"; }

# A topic is created and deleted on the way up; looking at the status changes nothing.
kafka_works() { kafka_asked --create; }
kafka_answers() { kafka_asked; }
kafka_asked() {
  port_open "${KAFKA_PORTS[0]}" &&
    python3 -I "$HERE/kafka/answers.py" "${KAFKA_PORTS[0]},${KAFKA_PORTS[2]}" "$@" 2>/dev/null
}

# kafka_properties DATA
kafka_properties() {
  cat <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${KAFKA_PORTS[1]}
listeners=CLIENT://127.0.0.1:${KAFKA_PORTS[0]},CONTROLLER://127.0.0.1:${KAFKA_PORTS[1]},EXTERNAL://127.0.0.1:${KAFKA_PORTS[2]}
advertised.listeners=CLIENT://127.0.0.1:${KAFKA_PORTS[0]},EXTERNAL://127.0.0.1:${KAFKA_PORTS[2]}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,EXTERNAL:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs=$1

# The application creates its topics itself, and this must not hide it when it does not.
auto.create.topics.enable=false

# One broker holds one copy.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# A group need not wait for members that start later.
group.initial.rebalance.delay.ms=0
# After a kill the broker may come back only when its old session is over; the default of 9 s makes every such test wait.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The default of 128 MiB does not fit a small heap.
log.cleaner.dedupe.buffer.size=2097152
EOF
}
