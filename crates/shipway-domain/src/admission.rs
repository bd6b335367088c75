//! One road in: every change to what runs is asked here.
