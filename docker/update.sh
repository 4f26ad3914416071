#!/bin/sh
# Replace every process by the version in this checkout, one after another, while deals are open: docker/update.sh
#
# Of what protects deals there are two, and the next one is replaced only once the one before is healthy again. A guardian
# that is told to end finishes the step in its hands and lets its accounts go; the other one takes them within a second.
# Stops at the first that does not become healthy: the others still run the version before.
set -eu
cd "$(dirname -- "$0")/.."

: "${COMPOSE:=docker-compose -f docker-compose.prod.yml}" "${HEALTHY_WITHIN:=300}"
# The order matters: see docs/operations.md, "Rolling update".
SERVICES="guardian_b guardian celery_worker_orders celery_worker celery_worker_notifications celery_worker_backtests
    celery_beat_b celery_beat stream_nobitex stream_wallex live_b live django_app_b django_app flower"

healthy() {
    deadline=$(($(date +%s) + HEALTHY_WITHIN))
    for container in $($COMPOSE ps -q "$1"); do
        while :; do
            state=$(docker inspect --format '{{.State.Health.Status}}' "$container")
            [ "$state" != healthy ] || break
            if [ "$(date +%s)" -gt "$deadline" ]; then
                echo "$1 is $state after $HEALTHY_WITHIN s. Nothing after it was replaced. See: $COMPOSE logs $1" >&2
                exit 1
            fi
            sleep 1
        done
    done
}

$COMPOSE build migrate
$COMPOSE exec -T backup sh /docker/backup.sh once
$COMPOSE run --rm --no-deps migrate
for service in $SERVICES; do
    echo "replacing $service"
    $COMPOSE up -d --no-deps --no-build "$service"
    healthy "$service"
done
echo "Everything runs the new version."
