FROM golang:1.25 AS build
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /shardlog ./cmd/shardlog

FROM scratch
COPY --from=build /shardlog /shardlog
# Inside of a container the loopback is of no use to others. The admin paths
# stay closed to them.
ENTRYPOINT ["/shardlog"]
CMD ["serve", "-addr", ":4567"]
EXPOSE 4567
