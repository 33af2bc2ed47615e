function stop() {
  break;
}
