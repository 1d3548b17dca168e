//! Why a law is not asked of one side.

/** Of the broker itself. */
export const TAKES = 'Mosquitto 2.0.11 takes it';

/** Of edgehold. */
export const TAKEN_FOR_KEPT = 'what is published as retained within two seconds of the first subscription is taken for one that was kept';
